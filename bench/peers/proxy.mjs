// A proxy as platforms in Node have it: the slug of the host name becomes a folder of the bucket, / becomes index.html, and each
// request goes to S3. proxy.mjs BUCKET_URL PORT
import http from "node:http";
import httpProxy from "http-proxy";

const [base, port] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
const proxy = httpProxy.createProxyServer({ agent });
proxy.on("proxyReq", (request, incoming) => {
  if (incoming.url === "/") request.path += "index.html";
});
proxy.on("error", (_, __, response) => response.writeHead?.(502).end());
http
  .createServer((request, response) => {
    const slug = request.headers.host.split(".")[0];
    proxy.web(request, response, { target: `${base}/${slug}`, changeOrigin: true });
  })
  .listen(Number(port), "127.0.0.1", () => console.log("listening"));
