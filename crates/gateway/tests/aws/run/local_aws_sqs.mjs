// Runs local-aws-sqs on loopback until standard input ends: with the test that started it.
import { pathToFileURL } from "node:url";

const [, , folder, port] = process.argv;
const { createSqsServer } = (
    await import(pathToFileURL(`${folder}/node_modules/local-aws-sqs/dist/index.js`))
).default;
process.stdin.resume().on("end", () => process.exit(0));
await createSqsServer({
    port: Number(port),
    hostname: "127.0.0.1",
    emulateQueueCreationLifecycle: false,
});
