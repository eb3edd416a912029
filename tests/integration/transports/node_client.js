// Speaks with a server as gRPC's own client for Node does, and prints what it got as JSON. node_client.js OPTIONS, where
// OPTIONS is JSON: address, protos (the folder of the .proto files), and for TLS ca, cert and key (paths) and token.
"use strict";

const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const MANY = 2000;
const SECOND_MS = 1000;
const PATIENCE_MS = 60 * SECOND_MS;
const COMPRESSION = { deflate: 1, gzip: 2 };

const options = JSON.parse(process.argv[2]);
const definition = loader.loadSync("pixelserve/oip/inference.proto", { includeDirs: [options.protos], longs: Number });
const { GRPCInferenceService } = grpc.loadPackageDefinition(definition).inference;

function credentials() {
  if (!options.ca) return grpc.credentials.createInsecure();
  const read = (path) => (path ? fs.readFileSync(path) : null);
  const channel = grpc.credentials.createSsl(read(options.ca), read(options.key), read(options.cert));
  if (!options.token) return channel;
  const token = grpc.credentials.createFromMetadataGenerator((_, callback) => {
    const metadata = new grpc.Metadata();
    metadata.set("authorization", `Bearer ${options.token}`);
    callback(null, metadata);
  });
  return grpc.credentials.combineChannelCredentials(channel, token);
}

// Every client has a connection of its own.
function connect(settings = {}) {
  const chosen = { "grpc.use_local_subchannel_pool": 1, "grpc.max_receive_message_length": -1, ...settings };
  return new GRPCInferenceService(options.address, credentials(), chosen);
}

function request(number, model = "doubler") {
  const values = Buffer.alloc(16);
  for (let i = 0; i < 4; i++) values.writeFloatLE(number, 4 * i);
  return {
    modelName: model,
    id: String(number),
    inputs: [{ name: "values", datatype: "FP32", shape: [1, 4] }],
    rawInputContents: [values],
  };
}

function isAnswer(answer, number) {
  const values = answer.rawOutputContents[0];
  return answer.id === String(number) && values.length === 16 && values.readFloatLE(12) === 2 * number;
}

// Resolves to {answer} or {code, details, trailing}; `onCall` gets the call once it has begun.
function infer(client, message, { deadlineMs = PATIENCE_MS, metadata = new grpc.Metadata(), onCall = () => {} } = {}) {
  return new Promise((resolve) => {
    const call = client.ModelInfer(message, metadata, { deadline: Date.now() + deadlineMs }, (error, answer) => {
      if (!error) return resolve({ answer });
      const { code, details, metadata: trailing } = error;
      return resolve({ code: grpc.status[code], details, trailing: trailing ? trailing.getMap() : {} });
    });
    onCall(call);
  });
}

async function unary(client) {
  const metadata = new grpc.Metadata();
  metadata.set("x-text", "a value");
  metadata.set("x-bytes-bin", Buffer.from([0, 1, 254, 255]));
  const { answer, ...error } = await infer(client, request(21), { metadata });
  return answer ? isAnswer(answer, 21) : error;
}

async function many() {
  const client = connect();
  const calls = Array.from({ length: MANY }, (_, number) => infer(client, request(number)));
  const counts = {};
  (await Promise.all(calls)).forEach(({ answer, code, details }, number) => {
    const key = answer ? (isAnswer(answer, number) ? "right" : "wrong") : `${code}: ${details}`;
    counts[key] = (counts[key] || 0) + 1;
  });
  client.close();
  return counts;
}

function stream(client) {
  return new Promise((resolve) => {
    const answers = [];
    const call = client.ModelStreamInfer({ deadline: Date.now() + PATIENCE_MS });
    call.on("data", (answer) => answers.push(answer.errorMessage || isAnswer(answer.inferResponse, answers.length)));
    call.on("error", (error) => resolve({ code: grpc.status[error.code], details: error.details }));
    call.on("end", () => resolve(answers));
    for (let number = 0; number < 100; number++) call.write(request(number, number === 50 ? "none" : "doubler"));
    call.end();
  });
}

async function cancel(client) {
  const ended = infer(client, request(1, "roomy"), { onCall: (call) => setTimeout(() => call.cancel(), SECOND_MS / 5) });
  return (await ended).code;
}

async function compressed(kind) {
  const client = connect({ "grpc.default_compression_algorithm": COMPRESSION[kind] });
  const good = await infer(client, request(3));
  const large = { ...request(3), rawInputContents: [Buffer.alloc(4 << 20)] };
  const { code } = await infer(client, large);
  client.close();
  return [good.answer ? isAnswer(good.answer, 3) : good, code];
}

async function main() {
  const client = connect();
  const { code, details } = await infer(client, request(1, "kühe ☃"));
  const results = {
    unary: await unary(client),
    many: await many(),
    stream: await stream(client),
    deadline: (await infer(client, request(1, "roomy"), { deadlineMs: SECOND_MS / 5 })).code,
    cancel: await cancel(client),
    gzip: await compressed("gzip"),
    deflate: await compressed("deflate"),
    refusal: [code, details],
    after: await unary(client),
  };
  client.close();
  process.stdout.write(JSON.stringify(results));
}

main();
