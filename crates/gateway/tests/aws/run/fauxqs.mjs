// Runs fauxqs until standard input ends: with the test that started it. Its own command listens on
// every interface; its parts can be put on loopback alone. For each line of standard input it prints
// how many requests of each kind came since the line before, as JSON, and how many connections.
import { builtinModules, register } from "node:module";
import { pathToFileURL } from "node:url";

// It keeps nothing on disk here, but loads what only Node 22 has for that.
if (!builtinModules.includes("node:sqlite")) {
    const stub = "data:text/javascript,export class DatabaseSync {}";
    const hooks = `export const resolve = (name, context, next) =>
        name === "node:sqlite"
            ? { url: ${JSON.stringify(stub)}, shortCircuit: true }
            : next(name, context);`;
    register(`data:text/javascript,${encodeURIComponent(hooks)}`);
}

const [, , folder, port] = process.argv;
const { buildApp } = await import(pathToFileURL(`${folder}/node_modules/fauxqs/dist/app.js`));
const app = buildApp({ logger: false, host: "127.0.0.1" });
let counts = { connections: 0 };
app.server.on("connection", () => (counts.connections += 1));
app.server.on("request", ({ headers }) => {
    const operation = String(headers["x-amz-target"]).split(".").pop();
    counts[operation] = (counts[operation] ?? 0) + 1;
});
process.stdin.on("data", () => {
    console.log(JSON.stringify(counts));
    counts = { connections: 0 };
});
process.stdin.on("end", () => process.exit(0));
await app.listen({ port: Number(port), host: "127.0.0.1" });
