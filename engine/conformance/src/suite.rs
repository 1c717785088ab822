//! How a suite of openraft is run over a store on a real disk, whatever the line of openraft.
//!
//! I own the store under test: open all the time, or closed and opened anew before every call, which the
//! suites themselves never do. I know neither line of openraft.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// A store under test, in a directory.
pub trait Subject: Send + Sync + 'static {
    /// The type configuration of its openraft.
    type Config: 'static;
    /// Its log.
    type Log: Send + Sync + 'static;
    /// The state machine that it is used with.
    type Machine: Send + Sync + 'static;
    /// What keeps it open besides the log; closed after the log is gone.
    type Open: Send + Sync + 'static;

    /// Opens the store in a directory, which is made if it is missing.
    fn open(
        &self,
        dir: &Path,
    ) -> impl Future<Output = io::Result<(Self::Open, Self::Log, Self::Machine)>> + Send;

    /// Closes the store as a program that ends well does.
    fn close(&self, open: Self::Open) -> impl Future<Output = io::Result<()>> + Send;
}

/// Makes a store for each case.
pub(crate) struct Builder<S> {
    pub(crate) subject: Arc<S>,
    pub(crate) every_call: bool,
}

/// What a case holds until it ends.
pub(crate) type Held<S> = (TempDir, <S as Subject>::Open);

impl<S: Subject> Builder<S> {
    pub(crate) async fn make(&self) -> io::Result<(Held<S>, Tested<S>, S::Machine)> {
        let dir = tempfile::tempdir()?;
        // The machine's store stays open: the suite takes no restart of it into account.
        let (open, _, machine) = self.subject.open(&dir.path().join("machine")).await?;
        let log = Tested {
            subject: self.subject.clone(),
            dir: dir.path().join("log"),
            every_call: self.every_call,
            current: Arc::default(),
        };
        Ok(((dir, open), log, machine))
    }
}

/// The log under test; its store is opened at the first call, or anew at every call.
pub(crate) struct Tested<S: Subject> {
    subject: Arc<S>,
    dir: PathBuf,
    pub(crate) every_call: bool,
    current: Arc<Mutex<Option<Current<S>>>>,
}

struct Current<S: Subject> {
    open: S::Open,
    log: S::Log,
}

impl<S: Subject> Clone for Tested<S> {
    fn clone(&self) -> Self {
        let (subject, dir, current) = (self.subject.clone(), self.dir.clone(), self.current.clone());
        Self { subject, dir, every_call: self.every_call, current }
    }
}

/// The open store, for one call.
pub(crate) struct Slot<'a, S: Subject>(MutexGuard<'a, Option<Current<S>>>);

impl<S: Subject> Slot<'_, S> {
    pub(crate) fn log(&mut self) -> &mut S::Log {
        &mut self.0.as_mut().expect("just opened").log
    }
}

impl<S: Subject> Tested<S> {
    pub(crate) async fn slot(&self) -> io::Result<Slot<'_, S>> {
        let mut slot = self.current.lock().await;
        if let Some(Current { open, log }) = slot.take_if(|_| self.every_call) {
            drop(log);
            self.subject.close(open).await?;
        }
        if slot.is_none() {
            let (open, log, machine) = self.subject.open(&self.dir).await?;
            drop(machine);
            *slot = Some(Current { open, log });
        }
        Ok(Slot(slot))
    }
}

/// A reader of the log under test: the log's own, or one that is made anew at every call.
pub(crate) enum Reader<S: Subject, R> {
    Own(R),
    Anew(Tested<S>),
}

/// Time does not pass for a case: its sleeps end at once.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime of one thread").block_on(future)
}

/// Runs every named case of a suite, and `transfer_snapshot`, which makes its stores itself.
macro_rules! run_cases {
    ($builder:expr, $suite:ty: $($case:ident),* $(,)?) => {{
        let builder = $builder;
        let mut tally = $crate::outcome::Tally::default();
        $(tally.run(stringify!($case), || {
            $crate::suite::block_on(async {
                let (held, log, machine) = builder.make().await.map_err(|e| e.to_string())?;
                let result = <$suite>::$case(log, machine).await.map_err(|e| e.to_string());
                drop(held);
                Ok(result?)
            })
        });)*
        tally.run("transfer_snapshot", || {
            let suite = <$suite>::transfer_snapshot(&builder);
            Ok($crate::suite::block_on(suite).map_err(|e| e.to_string())?)
        });
        tally
    }};
}
pub(crate) use run_cases;
