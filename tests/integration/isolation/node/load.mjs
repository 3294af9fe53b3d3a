// Writes and reads all the time, with the credentials that are mounted now. Ends with its input.
// argv: the directory of the binding, the collection. Prints a line for each state of the files that it uses,
// and at the end one with how many operations succeeded and failed.

import { readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { MongoClient } from "mongodb";

const [directory, collection] = process.argv.slice(2);
const counts = { succeeded: 0, failed: 0, errors: [] };
let ended = false;
process.stdin.resume();
process.stdin.on("end", () => (ended = true));

// kubelet replaces all files at once, by renaming `..data`: it is resolved once, so that user and
// password are of one version.
function mounted() {
  for (;;) {
    try {
      const state = readlinkSync(join(directory, "..data"));
      const read = (key) => readFileSync(join(directory, state, key), "utf8");
      return { state, uri: read("uri"), database: read("database") };
    } catch (error) {
      if (error.code !== "ENOENT") throw error; // replaced meanwhile
    }
  }
}

function tlsOptions() {
  const files = { tlsCAFile: "certificates", tlsCertificateKeyFile: "client-certificate" };
  const options = {};
  for (const [option, name] of Object.entries(files)) {
    const path = join(directory, name);
    if (statSync(path, { throwIfNoEntry: false })?.size) options[option] = path;
  }
  return options;
}

let client = null;
let binding = { state: null };
while (!ended) {
  try {
    if (readlinkSync(join(directory, "..data")) !== binding.state) {
      const next = mounted();
      const options = { serverSelectionTimeoutMS: 5_000, ...tlsOptions() };
      const fresh = await new MongoClient(next.uri, options).connect();
      await fresh.db(next.database).command({ ping: 1 });
      const old = client;
      client = fresh;
      binding = next;
      await old?.close();
      console.log(JSON.stringify({ state: next.state }));
    }
    const things = client.db(binding.database).collection(collection);
    await things.insertOne({ app_id: collection.split("_", 1)[0], from: "node" });
    await things.findOne({ from: "node" });
    counts.succeeded += 2;
  } catch (error) {
    counts.failed += 1;
    counts.errors.push(String(error.codeName ?? error.message).slice(0, 200));
  }
  await setTimeout(5); // leaves some of the processor to what is tested
}
await client?.close();
console.log(JSON.stringify(counts));
