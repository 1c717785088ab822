//! `seawall append`: entries from a file or from standard input, durable before they are confirmed.
//!
//! I own the cutting of the input into entries and batches. What I have printed as durable is
//! durable; after an error I say how far that is. An entry waits for others no longer than it is told to. The indexes follow the group's last, the term is
//! that of the last entry unless the command line gives a higher one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use seawall::{CreateOptions, Engine, Entry, Error, GroupId, Index, Options, Outcome, WriteBatch};

use crate::exit::{Exit, Failure};

/// Append the lines of FILE or of standard input as entries (writes).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The store's directory.
    dir: PathBuf,
    /// What to append [default: standard input].
    file: Option<PathBuf>,
    /// The group; created if the store does not have it.
    #[arg(long, default_value_t = 1)]
    group: u64,
    /// The term of the entries [default: that of the group's last entry, or 1].
    #[arg(long)]
    term: Option<u64>,
    /// Create the store if the directory is missing or empty.
    #[arg(long)]
    create: bool,
    /// With --create: the cluster that the new store belongs to.
    #[arg(long, default_value_t = 1, requires = "create")]
    cluster: u64,
    /// With --create: the node that the new store belongs to.
    #[arg(long, default_value_t = 1, requires = "create")]
    node: u64,
    /// How many entries are made durable together.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// How many milliseconds an entry waits for others to be made durable with it.
    #[arg(long, default_value_t = 200, value_name = "MS")]
    wait: u64,
    /// One entry with all bytes of the input, instead of an entry for each line.
    #[arg(long)]
    whole_file: bool,
    /// No progress on standard error.
    #[arg(long)]
    quiet: bool,
}

impl Args {
    /// Appends, and says how far the group is durable.
    pub(crate) fn run(&self, out: &mut impl Write) -> Result<Exit, Failure> {
        let (name, input) = self.input()?;
        if self.create && is_missing_or_empty(&self.dir) {
            Engine::create(&self.dir, &CreateOptions::new(self.cluster, self.node))
                .map_err(|e| Failure::store(&self.dir, e))?;
        }
        let options = Options::default();
        let limits = Limits {
            entry: u64::from(options.max_entry_bytes),
            batch: u64::from(options.max_batch_bytes) / 2,
        };
        let (engine, report) = Engine::open(&self.dir, options).map_err(|e| Failure::store(&self.dir, e))?;
        if report.is_alarm() {
            return Err(Failure::refused(
                format!("{}: recovery reports a loss, and nothing was appended", self.dir.display()),
                "run `seawall status` to see what is lost, and settle that first",
            ));
        }
        let source = Source { name, input, limit: limits.entry, whole: self.whole_file, line: 0 };
        let mut sink = Sink::open(self, &engine)?;
        let result = sink.take(&source.read_ahead()?, self, &limits);
        let result = result.and_then(|()| sink.flush());
        sink.progress.finish_and_clear();
        let durable = format!("durable through index {}", sink.durable);
        result.map_err(|failure| failure.after(&durable))?;
        let appended = sink.appended;
        engine.close().map_err(|e| Failure::store(&self.dir, e).after(&durable))?;
        writeln!(out, "appended {appended} entries to group {}; {durable}", self.group)?;
        Ok(Exit::Ok)
    }

    fn input(&self) -> Result<(String, Box<dyn BufRead + Send>), Failure> {
        let Some(path) = &self.file else {
            return Ok((
                "standard input".to_owned(),
                Box::new(BufReader::with_capacity(1 << 16, io::stdin())),
            ));
        };
        let name = path.display().to_string();
        let file = File::open(path).map_err(|e| Failure::input(&name, &e))?;
        Ok((name, Box::new(BufReader::with_capacity(1 << 16, file))))
    }
}

fn is_missing_or_empty(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) => e.kind() == io::ErrorKind::NotFound,
    }
}

/// Where a batch ends besides its count: no entry and no batch is larger than the store takes.
struct Limits {
    entry: u64,
    batch: u64,
}

/// The input, cut into entries.
struct Source {
    name: String,
    input: Box<dyn BufRead + Send>,
    limit: u64,
    whole: bool,
    line: u64,
}

/// The bytes of entries as they are read; the last may be the error that ended it.
type Entries = Receiver<Result<Vec<u8>, Failure>>;

/// Entries that are read before the store takes them; each may be as large as any.
const AHEAD: usize = 8;

impl Source {
    /// Reads on a thread of its own, so that who waits for the next entry can do something else meanwhile. Nobody
    /// waits for the thread: it may be in a read that never ends.
    fn read_ahead(mut self) -> Result<Entries, Failure> {
        let (give, entries) = sync_channel(AHEAD);
        let read = move || {
            while let Some(entry) = self.next().transpose() {
                let last = entry.is_err();
                if give.send(entry).is_err() || last {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("input".to_owned()).spawn(read);
        thread.map_err(|e| Failure::input("the thread that reads", &e))?;
        Ok(entries)
    }

    /// The next entry's bytes, or `None` at the end. An empty input is no entry, unless it is taken
    /// whole.
    fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if self.whole && self.line > 0 {
            return Ok(None);
        }
        self.line += 1;
        let mut bytes = Vec::new();
        // One byte for the newline and one to see that there is too much.
        let mut bounded = (&mut self.input).take(self.limit + 2);
        let read =
            if self.whole { bounded.read_to_end(&mut bytes) } else { bounded.read_until(b'\n', &mut bytes) };
        let count = read.map_err(|e| Failure::input(&self.name, &e))?;
        if count == 0 && !self.whole {
            return Ok(None);
        }
        if !self.whole && bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        if bytes.len() as u64 > self.limit {
            return Err(Failure::usage(
                format!("{}: entry {} is larger than {} bytes", self.name, self.line, self.limit),
                "cut it into smaller entries, or keep it elsewhere and append its name",
            ));
        }
        Ok(Some(bytes))
    }
}

/// The batch that is being filled, and how far the group is durable.
struct Sink<'a> {
    engine: &'a Engine,
    dir: &'a Path,
    group: GroupId,
    term: u64,
    next: Index,
    create: bool,
    pending: Vec<Entry>,
    bytes: u64,
    durable: u64,
    appended: u64,
    progress: ProgressBar,
    lines: bool,
}

impl<'a> Sink<'a> {
    fn open(args: &'a Args, engine: &'a Engine) -> Result<Self, Failure> {
        let group = GroupId(args.group);
        let create = !engine.groups().contains(&group);
        let (last_index, last_term) = if create {
            (Index(0), 0)
        } else {
            let status = engine.group(group).map_err(|e| Failure::store(&args.dir, e))?;
            (status.last.index, status.last.term.0)
        };
        let term = args.term.unwrap_or(last_term.max(1));
        if term < last_term {
            return Err(Failure::usage(
                format!("the term {term} is below the term {last_term} of the group's last entry"),
                format!("pass --term {last_term} or higher"),
            ));
        }
        let terminal = io::stderr().is_terminal();
        let progress =
            if terminal && !args.quiet { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        Ok(Self {
            engine,
            dir: &args.dir,
            group,
            term,
            next: last_index.next(),
            create,
            pending: Vec::new(),
            bytes: 0,
            durable: last_index.0,
            appended: 0,
            progress,
            lines: !terminal && !args.quiet,
        })
    }

    /// Takes the whole input; a last batch that is not full stays pending.
    fn take(&mut self, source: &Entries, args: &Args, limits: &Limits) -> Result<(), Failure> {
        let wait = Duration::from_millis(args.wait);
        let mut begun = Instant::now();
        loop {
            let next = match self.pending.is_empty() {
                true => source.recv().map_err(|_| RecvTimeoutError::Disconnected),
                false => source.recv_timeout(wait.saturating_sub(begun.elapsed())),
            };
            let data = match next {
                Ok(data) => data?,
                Err(RecvTimeoutError::Timeout) => {
                    self.flush()?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            if self.pending.is_empty() {
                begun = Instant::now();
            }
            let bytes = data.len() as u64;
            if !self.pending.is_empty() && self.bytes + bytes > limits.batch {
                self.flush()?;
            }
            self.pending.push(Entry::command(self.next.0, self.term, data));
            self.next = self.next.next();
            self.bytes += bytes;
            if self.pending.len() as u64 >= args.batch {
                self.flush()?;
            }
        }
    }

    /// Makes what is pending durable, then says so.
    fn flush(&mut self) -> Result<(), Failure> {
        let pending = std::mem::take(&mut self.pending);
        self.bytes = 0;
        self.write(&pending)?;
        self.progress.set_message(format!("durable through index {}", self.durable));
        self.progress.tick();
        if self.lines && !pending.is_empty() {
            eprintln!("durable through index {}", self.durable);
        }
        Ok(())
    }

    /// One batch; or two halves, if the store's segments are too small for it.
    fn write(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        let Some(last) = entries.last() else { return Ok(()) };
        let mut batch = WriteBatch::new();
        if self.create {
            batch.create_group(self.group);
        }
        for entry in entries {
            batch.append(self.group, entry.clone());
        }
        let ticket = match self.engine.write(batch) {
            Ok(ticket) => ticket,
            Err(Error::TooLarge { .. }) if entries.len() > 1 => {
                let (front, back) = entries.split_at(entries.len() / 2);
                self.write(front)?;
                return self.write(back);
            }
            Err(e) => return Err(Failure::store(self.dir, e)),
        };
        match ticket.wait() {
            Outcome::Durable => {}
            outcome @ (Outcome::NotDurable | Outcome::Unknown) => {
                return Err(Failure::unconfirmed(self.dir, outcome));
            }
        }
        self.create = false;
        self.appended += entries.len() as u64;
        self.durable = last.id.index.0;
        Ok(())
    }
}
