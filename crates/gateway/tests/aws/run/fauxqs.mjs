// Runs fauxqs until standard input ends: with the test that started it. Its own command listens on
// every interface; its parts can be put on loopback alone.
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
process.stdin.resume().on("end", () => process.exit(0));
const app = buildApp({ logger: false, host: "127.0.0.1" });
await app.listen({ port: Number(port), host: "127.0.0.1" });
