// Placeholder of the build page: prints the log.
const [, , slug, , build] = location.pathname.split("/");
const log = document.getElementById("log");
const source = new EventSource(`/api/sites/${slug}/builds/${build ?? "latest"}/events`);
source.onmessage = ({ data }) => log.append((JSON.parse(data).log ?? "") + "\n");
source.addEventListener("end", () => source.close());
