// What the address of a build page says: its token, the selected lines, and the start of the build.

/** Return the token of this tab; one in the address is stored and removed from there. */
export function takeToken(site) {
  const parameters = new URLSearchParams(location.search);
  const given = parameters.get("token");
  try {
    if (given !== null) {
      parameters.delete("token");
      const rest = parameters.size ? `?${parameters}` : "";
      history.replaceState(null, "", location.pathname + rest + location.hash);
      sessionStorage.setItem(`token:${site}`, given);
      sessionStorage.setItem("token", given); // for other sites that it may include
    }
    return sessionStorage.getItem(`token:${site}`) ?? sessionStorage.getItem("token") ?? "";
  } catch {
    return given ?? ""; // some frames have no storage
  }
}

/** Return the lines of a fragment such as "#L120" or "#L120-L130". */
export function parseRange(fragment) {
  const match = /^#L(\d+)(?:-L?(\d+))?$/.exec(fragment);
  if (!match) return null;
  const [start, end] = [Number(match[1]), Number(match[2] ?? match[1])];
  return { start, from: Math.max(1, Math.min(start, end)), to: Math.max(start, end) };
}

/** Return the start of a build by its id if that is a generated one: 20261129-174842-…, in UTC. */
export function startOfBuild(build) {
  const match = /^(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-/.exec(build ?? "");
  if (!match) return null;
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number);
  const started = Date.UTC(year, month - 1, day, hour, minute, second);
  return started < Date.now() ? started : null;
}
