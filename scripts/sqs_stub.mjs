// Answers SQS's JSON protocol at once, so that a client's own cost can be measured: it keeps what
// is sent in memory, gives every message once in full batches, and forgets what is deleted. No
// visibility, no waiting: a queue that is empty says so at once.
//
//   node sqs_stub.mjs PORT        a line on standard input: the requests since the last, as JSON
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const [port] = process.argv.slice(2);
const queues = new Map();
let counts = {};
let connections = 0;

// boto3 looks at it.
const digest = (body) => createHash("md5").update(body).digest("hex");
const name = (url) => url.slice(url.lastIndexOf("/") + 1);
const queue = (url) => {
  const key = name(url);
  if (!queues.has(key)) queues.set(key, { messages: [], next: 0, flight: 0, tags: {} });
  return queues.get(key);
};

let last = 0;
const keep = (queue, entry, now) => {
  last += 1;
  const id = `m-${last}`;
  const md5 = digest(entry.MessageBody);
  queue.messages.push({
    MessageId: id,
    ReceiptHandle: id,
    MD5OfBody: md5,
    Body: entry.MessageBody,
    Attributes: {
      SentTimestamp: now,
      ApproximateFirstReceiveTimestamp: now,
      ApproximateReceiveCount: "1",
    },
    ...(entry.MessageAttributes && { MessageAttributes: entry.MessageAttributes }),
  });
  return { Id: entry.Id, MessageId: id, MD5OfMessageBody: md5 };
};

const answers = {
  CreateQueue: (ask) => ({ QueueUrl: `http://127.0.0.1:${port}/000000000000/${ask.QueueName}` }),
  GetQueueUrl: (ask) => ({ QueueUrl: `http://127.0.0.1:${port}/000000000000/${ask.QueueName}` }),
  GetQueueAttributes: (ask) => {
    const { messages, next, flight } = queue(ask.QueueUrl);
    return {
      Attributes: {
        ApproximateNumberOfMessages: String(messages.length - next),
        ApproximateNumberOfMessagesNotVisible: String(flight),
        ApproximateNumberOfMessagesDelayed: "0",
        MessageRetentionPeriod: "1209600",
        MaximumMessageSize: "1048576",
        VisibilityTimeout: "30",
      },
    };
  },
  ListQueueTags: (ask) => ({ Tags: queue(ask.QueueUrl).tags }),
  TagQueue: (ask) => void Object.assign(queue(ask.QueueUrl).tags, ask.Tags),
  UntagQueue: (ask) => {
    for (const key of ask.TagKeys) delete queue(ask.QueueUrl).tags[key];
  },
  SendMessage: (ask) => keep(queue(ask.QueueUrl), ask, String(Date.now())),
  SendMessageBatch: (ask) => {
    const to = queue(ask.QueueUrl);
    const now = String(Date.now());
    return { Successful: ask.Entries.map((entry) => keep(to, entry, now)), Failed: [] };
  },
  ReceiveMessage: (ask) => {
    const from = queue(ask.QueueUrl);
    const to = from.next + (ask.MaxNumberOfMessages ?? 1);
    const messages = from.messages.slice(from.next, to);
    from.messages.fill(undefined, from.next, Math.min(to, from.messages.length));
    from.next += messages.length;
    from.flight += messages.length;
    const now = String(Date.now());
    for (const one of messages) one.Attributes.ApproximateFirstReceiveTimestamp = now;
    return messages.length ? { Messages: messages } : {};
  },
  DeleteMessageBatch: (ask) => {
    queue(ask.QueueUrl).flight -= ask.Entries.length;
    return { Successful: ask.Entries.map((entry) => ({ Id: entry.Id })), Failed: [] };
  },
  ChangeMessageVisibilityBatch: (ask) => ({
    Successful: ask.Entries.map((entry) => ({ Id: entry.Id })),
    Failed: [],
  }),
};

const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const operation = request.headers["x-amz-target"]?.split(".")[1];
    counts[operation] = (counts[operation] ?? 0) + 1;
    const answer = answers[operation]?.(JSON.parse(Buffer.concat(chunks).toString() || "{}"));
    const text = JSON.stringify(answer ?? {});
    response.writeHead(answers[operation] ? 200 : 400, {
      "content-type": "application/x-amz-json-1.0",
      "content-length": Buffer.byteLength(text),
    });
    response.end(text);
  });
});
server.on("connection", (socket) => {
  connections += 1;
  socket.setNoDelay(true);
});
server.keepAliveTimeout = 60_000;
server.listen(Number(port), "127.0.0.1");

process.stdin.on("data", () => {
  console.log(JSON.stringify({ ...counts, connections }));
  counts = {};
  connections = 0;
});
process.stdin.on("end", () => process.exit(0));
