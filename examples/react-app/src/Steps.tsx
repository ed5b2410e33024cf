const STEPS = [
  ["clone", "The one commit that is built, into an empty folder."],
  ["install", "npm ci: what the lockfile names, nothing else."],
  ["build", "The build script of package.json."],
  ["upload", "Hashed files first, pages last: no page is live before what it needs."],
] as const;

export default function Steps() {
  return (
    <ol className="steps">
      {STEPS.map(([name, what]) => (
        <li key={name}>
          <h2>{name}</h2>
          <p>{what}</p>
        </li>
      ))}
    </ol>
  );
}
