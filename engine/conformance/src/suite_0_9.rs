//! The suite that openraft 0.9 ships, case by case.
//!
//! I own how it runs over a store on a real disk: plainly, and with the store closed and opened anew before
//! every call, which the suite itself never does. I judge nothing that the suite does not.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use openraft_0_9 as openraft;

use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{
    LogId, LogState, OptionalSend, RaftLogReader, RaftTypeConfig, StorageError, StorageIOError, Vote,
};

use crate::outcome::Tally;
use crate::suite::{self, Builder, Held, Subject, Tested, run_cases};

/// A store of openraft 0.9.
pub trait Nine:
    Subject<
        Config: RaftTypeConfig<NodeId = u64, D: Debug, R: Debug>,
        Log: RaftLogStorage<Self::Config>,
        Machine: RaftStateMachine<Self::Config>,
    >
{
}

impl<S> Nine for S where
    S: Subject<
            Config: RaftTypeConfig<NodeId = u64, D: Debug, R: Debug>,
            Log: RaftLogStorage<S::Config>,
            Machine: RaftStateMachine<S::Config>,
        >
{
}

type Machines<S> = <S as Subject>::Machine;
type Configs<S> = <S as Subject>::Config;
type Entries<S> = Vec<<Configs<S> as RaftTypeConfig>::Entry>;
type Refused = StorageError<u64>;

fn failed(e: io::Error) -> Refused {
    StorageIOError::read(&e).into()
}

/// Runs the suite; each case gets a store of its own.
pub fn plain<S: Nine>(subject: S) -> Tally {
    cases(Builder { subject: Arc::new(subject), every_call: false })
}

/// Runs the suite with the store closed and opened anew before every call of the log.
pub fn reopened<S: Nine>(subject: S) -> Tally {
    cases(Builder { subject: Arc::new(subject), every_call: true })
}

impl<S: Nine> StoreBuilder<Configs<S>, Tested<S>, Machines<S>, Held<S>> for Builder<S> {
    async fn build(&self) -> Result<(Held<S>, Tested<S>, Machines<S>), Refused> {
        self.make().await.map_err(failed)
    }
}

type Reader<S> = suite::Reader<S, <<S as Subject>::Log as RaftLogStorage<Configs<S>>>::LogReader>;

impl<S: Nine> RaftLogReader<Configs<S>> for Tested<S> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Entries<S>, Refused> {
        let mut slot = self.slot().await.map_err(failed)?;
        slot.log().get_log_reader().await.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Entries<S>, Refused> {
        let mut slot = self.slot().await.map_err(failed)?;
        slot.log().get_log_reader().await.limited_get_log_entries(start, end).await
    }
}

impl<S: Nine> RaftLogReader<Configs<S>> for Reader<S> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Entries<S>, Refused> {
        match self {
            Self::Own(reader) => reader.try_get_log_entries(range).await,
            Self::Anew(tested) => tested.try_get_log_entries(range).await,
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Entries<S>, Refused> {
        match self {
            Self::Own(reader) => reader.limited_get_log_entries(start, end).await,
            Self::Anew(tested) => tested.limited_get_log_entries(start, end).await,
        }
    }
}

impl<S: Nine> RaftLogStorage<Configs<S>> for Tested<S> {
    type LogReader = Reader<S>;

    async fn get_log_state(&mut self) -> Result<LogState<Configs<S>>, Refused> {
        self.slot().await.map_err(failed)?.log().get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Reader<S> {
        if self.every_call {
            return Reader::Anew(self.clone());
        }
        // A store that does not open fails the call that reads.
        match self.slot().await {
            Ok(mut slot) => Reader::Own(slot.log().get_log_reader().await),
            Err(_) => Reader::Anew(self.clone()),
        }
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), Refused> {
        self.slot().await.map_err(failed)?.log().save_vote(vote).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, Refused> {
        self.slot().await.map_err(failed)?.log().read_vote().await
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), Refused> {
        self.slot().await.map_err(failed)?.log().save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, Refused> {
        self.slot().await.map_err(failed)?.log().read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Configs<S>>) -> Result<(), Refused>
    where
        I: IntoIterator<Item = <Configs<S> as RaftTypeConfig>::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.slot().await.map_err(failed)?.log().append(entries, callback).await
    }

    async fn truncate(&mut self, id: LogId<u64>) -> Result<(), Refused> {
        self.slot().await.map_err(failed)?.log().truncate(id).await
    }

    async fn purge(&mut self, id: LogId<u64>) -> Result<(), Refused> {
        self.slot().await.map_err(failed)?.log().purge(id).await
    }
}

type Cases<S> = Suite<Configs<S>, Tested<S>, Machines<S>, Builder<S>, Held<S>>;

fn cases<S: Nine>(builder: Builder<S>) -> Tally {
    run_cases!(builder, Cases<S>:
        last_membership_in_log_initial,
        last_membership_in_log,
        last_membership_in_log_multi_step,
        get_membership_initial,
        get_membership_from_log_and_empty_sm,
        get_membership_from_empty_log_and_sm,
        get_membership_from_log_le_sm_last_applied,
        get_membership_from_log_gt_sm_last_applied_1,
        get_membership_from_log_gt_sm_last_applied_2,
        get_initial_state_without_init,
        get_initial_state_membership_from_log_and_sm,
        get_initial_state_with_state,
        get_initial_state_last_log_gt_sm,
        get_initial_state_last_log_lt_sm,
        get_initial_state_log_ids,
        get_initial_state_re_apply_committed,
        save_vote,
        get_log_entries,
        limited_get_log_entries,
        try_get_log_entry,
        initial_logs,
        get_log_state,
        get_log_id,
        last_id_in_log,
        last_applied_state,
        purge_logs_upto_0,
        purge_logs_upto_5,
        purge_logs_upto_20,
        delete_logs_since_11,
        delete_logs_since_0,
        append_to_log,
        snapshot_meta,
        apply_single,
        apply_multiple,
    )
}
