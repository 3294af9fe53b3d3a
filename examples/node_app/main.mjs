// Notes in a collection of the app's own, in JavaScript, without the library.
//
// All that the app knows is in the Secret that the operator projects and the pod mounts: where MongoDB is, as whom to log in, and
// who it is. MongoDB holds the wall: the app's user reaches its own collections alone, and each document has to bear its stamp.

import { readFile, readlink } from "node:fs/promises";
import { createServer } from "node:http";
import { join } from "node:path";
import { MongoClient, ObjectId } from "mongodb";

const BINDING = process.env.BINDING ?? "/bindings/mdb";
const GRACE = 30_000; // how long what is under way may go on with the user before
const MOST_BYTES = 64 * 1024;

let current; // {client, notes, slug, state}

// kubelet replaces all files at once by renaming ..data: what it leads to is read, so that no user name meets another's password.
async function readBinding() {
  const state = await readlink(join(BINDING, "..data")).catch(() => ".");
  const entry = async (name) => (await readFile(join(BINDING, state, name), "utf8")).trim();
  const [uri, database, slug] = await Promise.all(["uri", "database", "app-slug"].map(entry));
  const certificates = await entry("certificates").catch(() => ""); // there with TLS alone
  return { uri, database, slug, state, ca: certificates && join(BINDING, "certificates") };
}

async function connect() {
  const { uri, database, slug, state, ca } = await readBinding();
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 5_000, ...(ca && { tls: true, tlsCAFile: ca }) });
  try {
    const notes = client.db(database).collection(`${slug}_notes`);
    await notes.findOne({}); // as this user
    return { client, notes, slug, state };
  } catch (error) {
    await client.close();
    throw error;
  }
}

// Secrets rotate; both users are valid for the overlap, so the new one is tried before it is used.
async function follow() {
  try {
    const state = await readlink(join(BINDING, "..data")).catch(() => ".");
    if (state !== current?.state) {
      const before = current?.client;
      current = await connect();
      console.log(`connected as app ${current.slug}`);
      if (before) setTimeout(() => before.close(), GRACE).unref();
    }
  } catch (error) {
    console.error(`not connected: ${error.codeName ?? error.code ?? error.name}`); // its message may hold the address
  }
  setTimeout(follow, 1_000).unref();
}

async function body(request) {
  let text = "";
  for await (const part of request) {
    text += part;
    if (text.length > MOST_BYTES) throw new Refused(413, "the body is too long");
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new Refused(422, "the body is no JSON");
  }
}

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const routes = {
  "GET /health": () => [200, { status: "healthy" }],
  "GET /ready": async () => {
    await connected().notes.findOne({}, { maxTimeMS: 2_000 });
    return [200, { ready: true, slug: connected().slug }];
  },
  "GET /notes": async () => {
    const found = connected().notes.find({}, { maxTimeMS: 5_000 }).sort({ at: -1 }).limit(100);
    return [200, await found.toArray()];
  },
  "POST /notes": async (request) => {
    const { text } = (await body(request)) ?? {};
    if (typeof text !== "string" || !text.trim()) throw new Refused(422, "text is missing");
    // The stamp: MongoDB refuses a document without it, and one with another app's.
    const note = { _id: new ObjectId(), text, at: new Date(), app_id: connected().slug };
    await connected().notes.insertOne(note);
    return [201, note];
  },
};

function connected() {
  if (!current) throw new Refused(503, "not connected yet");
  return current;
}

const server = createServer(async (request, response) => {
  const route = routes[`${request.method} ${request.url.split("?")[0]}`];
  let answer;
  try {
    answer = route ? await route(request) : [404, { error: "there is no such path" }];
  } catch (error) {
    if (!(error instanceof Refused)) console.error(`${request.method}: ${error.codeName ?? error.code ?? error.name}`);
    const status = error.status ?? 503;
    answer = [status, { error: error instanceof Refused ? error.message : "the database does not answer" }];
  }
  response.writeHead(answer[0], { "Content-Type": "application/json", "X-Content-Type-Options": "nosniff" });
  response.end(JSON.stringify(answer[1]));
});

await follow();
server.listen(Number(process.env.PORT ?? 8000));
process.on("SIGTERM", () => server.close(() => current?.client.close().then(() => process.exit(0))));
