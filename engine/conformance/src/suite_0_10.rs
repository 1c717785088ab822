//! The suite that openraft 0.10 ships, case by case.
//!
//! I own how it runs over a store on a real disk: plainly, and with the store closed and opened anew before
//! every call, which the suite itself never does. I judge nothing that the suite does not.

use std::fmt::Debug;
use std::io;
use std::ops::{RangeBounds, RangeInclusive};
use std::sync::Arc;

use openraft_0_10 as openraft;

use openraft::storage::{IOFlushed, RaftLogStorage, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::{LogState, OptionalSend, RaftLogReader, RaftTypeConfig, StorageError};

use crate::outcome::Tally;
use crate::suite::{self, Builder, Held, Subject, Tested, run_cases};

/// A store of openraft 0.10.
pub trait Ten:
    Subject<
        Config: RaftTypeConfig<Term: From<u64>, NodeId: From<u64>, Node: Default, D: Debug, R: Debug>,
        Log: RaftLogStorage<Self::Config>,
        Machine: RaftStateMachine<Self::Config>,
    >
{
}

impl<S> Ten for S where
    S: Subject<
            Config: RaftTypeConfig<Term: From<u64>, NodeId: From<u64>, Node: Default, D: Debug, R: Debug>,
            Log: RaftLogStorage<S::Config>,
            Machine: RaftStateMachine<S::Config>,
        >
{
}

type Machines<S> = <S as Subject>::Machine;
type Configs<S> = <S as Subject>::Config;
type Entries<S> = Vec<EntryOf<Configs<S>>>;

fn failed<C: RaftTypeConfig>(e: io::Error) -> StorageError<C> {
    StorageError::read(<C::ErrorSource as openraft::errors::ErrorSource>::from_error(&e))
}

/// Runs the suite; each case gets a store of its own.
pub fn plain<S: Ten>(subject: S) -> Tally {
    cases(Builder { subject: Arc::new(subject), every_call: false })
}

/// Runs the suite with the store closed and opened anew before every call of the log.
pub fn reopened<S: Ten>(subject: S) -> Tally {
    cases(Builder { subject: Arc::new(subject), every_call: true })
}

impl<S: Ten> StoreBuilder<Configs<S>, Tested<S>, Machines<S>, Held<S>> for Builder<S> {
    async fn build(&self) -> Result<(Held<S>, Tested<S>, Machines<S>), StorageError<Configs<S>>> {
        self.make().await.map_err(failed)
    }
}

type Reader<S> = suite::Reader<S, <<S as Subject>::Log as RaftLogStorage<Configs<S>>>::LogReader>;

impl<S: Ten> RaftLogReader<Configs<S>> for Reader<S> {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Entries<S>> {
        match self {
            Self::Own(reader) => reader.try_get_log_entries(range).await,
            Self::Anew(tested) => {
                let mut slot = tested.slot().await?;
                let mut reader = slot.log().get_log_reader().await;
                reader.try_get_log_entries(range).await
            }
        }
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Configs<S>>>> {
        match self {
            Self::Own(reader) => reader.read_vote().await,
            Self::Anew(tested) => {
                let mut slot = tested.slot().await?;
                let mut reader = slot.log().get_log_reader().await;
                reader.read_vote().await
            }
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Entries<S>> {
        match self {
            Self::Own(reader) => reader.limited_get_log_entries(start, end).await,
            Self::Anew(tested) => {
                let mut slot = tested.slot().await?;
                let mut reader = slot.log().get_log_reader().await;
                reader.limited_get_log_entries(start, end).await
            }
        }
    }

    async fn get_key_log_ids(
        &mut self,
        range: RangeInclusive<LogIdOf<Configs<S>>>,
    ) -> io::Result<Vec<LogIdOf<Configs<S>>>> {
        match self {
            Self::Own(reader) => reader.get_key_log_ids(range).await,
            Self::Anew(tested) => {
                let mut slot = tested.slot().await?;
                let mut reader = slot.log().get_log_reader().await;
                reader.get_key_log_ids(range).await
            }
        }
    }
}

impl<S: Ten> RaftLogStorage<Configs<S>> for Tested<S> {
    type LogReader = Reader<S>;

    async fn get_log_state(&mut self) -> io::Result<LogState<Configs<S>>> {
        self.slot().await?.log().get_log_state().await
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

    async fn save_vote(&mut self, vote: &VoteOf<Configs<S>>) -> io::Result<()> {
        self.slot().await?.log().save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogIdOf<Configs<S>>>) -> io::Result<()> {
        self.slot().await?.log().save_committed(committed).await
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogIdOf<Configs<S>>>> {
        self.slot().await?.log().read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Configs<S>>) -> io::Result<()>
    where
        I: IntoIterator<Item = EntryOf<Configs<S>>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.slot().await?.log().append(entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Configs<S>>>) -> io::Result<()> {
        self.slot().await?.log().truncate_after(last).await
    }

    async fn purge(&mut self, id: LogIdOf<Configs<S>>) -> io::Result<()> {
        self.slot().await?.log().purge(id).await
    }
}

type Cases<S> = Suite<Configs<S>, Tested<S>, Machines<S>, Builder<S>, Held<S>>;

fn cases<S: Ten>(builder: Builder<S>) -> Tally {
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
        get_initial_state_membership_from_empty_log_and_sm,
        get_initial_state_membership_from_sm_inlog_is_smaller,
        get_initial_state_membership_from_log_insm_is_smaller,
        get_initial_state_with_state,
        get_initial_state_last_log_gt_sm,
        get_initial_state_last_log_lt_sm,
        get_initial_state_inverted_log_order,
        get_initial_state_conflict_at_same_index,
        get_initial_state_log_ids,
        get_initial_state_re_apply_committed,
        save_vote,
        get_log_entries,
        limited_get_log_entries,
        leader_bounded_stream,
        entries_stream,
        try_get_log_entry,
        log_reader_reads_new_entries,
        initial_logs,
        get_log_state,
        get_log_id,
        last_id_in_log,
        last_applied_state,
        purge_logs_upto_0,
        purge_logs_upto_5,
        purge_logs_upto_20,
        delete_logs_after_11,
        delete_logs_after_5,
        delete_logs_after_0,
        delete_logs_after_none,
        append_to_log,
        snapshot_meta,
        snapshot_meta_optional,
        apply_single,
        apply_multiple,
    )
}
