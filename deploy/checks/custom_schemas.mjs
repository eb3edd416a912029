// Validates custom resources with the functions of @kubernetes-models/*: reads a JSON list of objects from stdin and writes
// a list with the errors of each. Argument: the folder that holds node_modules.
//
// These functions accept unknown fields, which a cluster drops silently, so a misspelt field would pass. But they read every
// field that they know by its name, and a proxy around each object records which: a field that was never read is unknown.
// An object of which nothing was read by name is a map, or may hold anything.
import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";

const models = path.join(process.argv[2], "node_modules", "@kubernetes-models");

// Returns the validating function of a kind; null if no package has it.
async function validator({ apiVersion, kind }) {
  for (const name of await readdir(models)) {
    const file = path.join(models, name, ...apiVersion.split("/"), `${kind}.js`);
    const text = await readFile(file, "utf8").catch(() => "");
    const schema = text.match(/import\{validate\}from"([^"]+)"/)?.[1];
    if (schema) return (await import(pathToFileURL(path.resolve(path.dirname(file), schema)))).validate;
  }
  return null;
}

// Wraps a value; `seen` receives, for each object inside, the names that were read and whether it was walked as a map.
function recorded(value, seen) {
  if (value === null || typeof value !== "object") return value;
  if (seen.has(value)) return seen.get(value).proxy;
  const record = { read: new Set(), map: false };
  record.proxy = new Proxy(value, {
    get(target, name) {
      record.read.add(name);
      return recorded(target[name], seen);
    },
    ownKeys(target) {
      record.map = true;
      return Reflect.ownKeys(target);
    },
  });
  seen.set(value, record);
  return record.proxy;
}

function unknownFields(value, seen, place) {
  if (value === null || typeof value !== "object") return [];
  const record = seen.get(value);
  if (!record || record.read.size === 0) return [];
  const strict = !Array.isArray(value) && !record.map;
  return Object.entries(value).flatMap(([name, child]) =>
    strict && !record.read.has(name)
      ? [`${place || "object"}: unknown field ${name}`]
      : unknownFields(child, seen, place ? `${place}.${name}` : name),
  );
}

async function errors(object) {
  const validate = await validator(object);
  if (!validate) return [`no schema of ${object.apiVersion} ${object.kind} found`];
  const seen = new Map();
  if (validate(recorded(object, seen))) return unknownFields(object, seen, "");
  return validate.errors.map((error) => `${error.instancePath.slice(1).replaceAll("/", ".") || "object"}: ${reason(error)}`);
}

function reason({ keyword, params }) {
  return `${keyword} ${Object.values(params).flat().join(", ")}`;
}

let input = "";
for await (const chunk of process.stdin) input += chunk;
const found = [];
for (const object of JSON.parse(input)) found.push(await errors(object));
console.log(JSON.stringify(found));
