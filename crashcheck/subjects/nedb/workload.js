// nedb: documents are added to a database that an earlier run left, and its file is compacted.
//
// The README of 1.8.0, "Persistence": "compaction forces the OS to physically flush data to disk, while
// appends to the data file do not"; "That guarantees that a server crash can never cause complete data
// loss". The README of 1.1.1 speaks of "temporary files NeDB uses to perform crash-safe writes". So what is
// acknowledged is a finished compaction: the first is a part of loading.
'use strict';
const path = require('path');
const Datastore = require('nedb');

const [, , what, directory] = process.argv;
const database = new Datastore({ filename: path.join(directory, 'db') });

function fail(error) {
  if (error) {
    console.error(String(error));
    process.exit(1);
  }
}

function numbered(from, to) {
  return Array.from({ length: to - from }, (_, i) => ({ number: from + i, text: 'x'.repeat(40) }));
}

database.loadDatabase((error) => {
  fail(error);
  if (what === 'prepare') {
    database.insert(numbered(0, 40), fail);
    return;
  }
  process.stdout.write('durable-ack 40\n');
  database.insert(numbered(40, 42), (error) => {
    fail(error);
    database.persistence.persistCachedDatabase((error) => {
      fail(error);
      process.stdout.write('durable-ack 42\n');
    });
  });
});
