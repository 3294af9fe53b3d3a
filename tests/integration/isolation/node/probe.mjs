// Runs commands as one user and prints what MongoDB answered to each: 0, or the code of the error.
// Standard input: {uri, commands: [{key, database, command, then}]}, the commands ready to be sent.

import { readFileSync } from "node:fs";
import { MongoClient } from "mongodb";

const { uri, commands } = JSON.parse(readFileSync(0, "utf8"));
const client = new MongoClient(uri, { serverSelectionTimeoutMS: 10_000 });

async function codeOf(database, command) {
  try {
    const reply = await client.db(database).command(command);
    return reply.writeErrors?.[0]?.code ?? 0;
  } catch (error) {
    return error.code ?? String(error);
  }
}

const answers = {};
for (const { key, database, command, then } of commands) {
  answers[key] = await codeOf(database, command);
  if (answers[key] === 0 && then) answers[key] = await codeOf(database, then);
}
await client.close();
console.log(JSON.stringify(answers));
