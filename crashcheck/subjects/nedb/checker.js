// The database opens, and has the documents of the earlier run and those that were compacted since.
'use strict';
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const Datastore = require('nedb');

function check(directory, acks, answer) {
  const database = new Datastore({ filename: path.join(directory, 'db') });
  database.loadDatabase((error) => {
    if (error) return answer(String(error.message || error));
    database.find({}, (error, documents) => {
      if (error) return answer(String(error));
      const there = new Set(documents.map((document) => document.number));
      const expected = acks.length ? Number(acks[acks.length - 1]) : 40;
      for (let number = 0; number < expected; number++) {
        if (!there.has(number)) return answer(`${there.size} of ${expected} documents are there`);
      }
      answer('');
    });
  });
}

if (process.argv.includes('--persistent')) {
  // One at a time: the next state is shown when this one is answered.
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    const asked = JSON.parse(line);
    check(asked.dir, asked.acks, (reason) => {
      console.log(JSON.stringify(reason ? { ok: false, reason } : { ok: true }));
    });
  });
} else {
  const acks = fs.readFileSync(process.env.CRASHCHECK_ACKS, 'utf8').split('\n').filter((line) => line);
  check(process.env.CRASHCHECK_DIR, acks, (reason) => {
    if (reason) console.error(reason);
    process.exitCode = reason ? 1 : 0;
  });
}
