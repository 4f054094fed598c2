//! Job records and the numbers that are never given twice.

use std::sync::atomic::Ordering;

use ota_core::{
    JobId,
    error::PortError,
    job::Job,
    ports::{EndedJobs, JobJournal, JobPage},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::{SqliteStore, StoreError, ended};

impl JobJournal for SqliteStore {
    fn ready(&self) -> Result<(), PortError> {
        self.takes_writes()
    }

    fn next_number(&self) -> Result<u64, PortError> {
        self.take("jobs", 1)
    }

    fn save(&self, job: &Job) -> Result<(), PortError> {
        let record = serde_json::to_string(job).map_err(StoreError::record("jobs", job.id.as_str()))?;
        Ok(self.write(|tx| {
            let sql = "INSERT INTO jobs (id, state, created, ended, record) VALUES (?1, ?2, ?3, ?4, ?5)
                       ON CONFLICT (id) DO UPDATE SET state = ?2, created = ?3, ended = ?4, record = ?5";
            let (status, end) = (job.state.status().as_str(), job.state.is_end());
            tx.prepare_cached(sql)
                .and_then(|mut insert| {
                    insert.execute(params![job.id.as_str(), status, job.created.as_millis(), end, record])
                })
                .map_err(StoreError::sql("save a job"))?;
            Ok(())
        })?)
    }

    fn job(&self, id: &JobId) -> Result<Option<Job>, PortError> {
        self.read(|conn| {
            one(conn, "SELECT id, record FROM jobs WHERE id = ?1", [id.as_str()])?.map(parsed).transpose()
        })
    }

    fn active(&self) -> Result<Option<Job>, PortError> {
        let sql = "SELECT id, record FROM jobs WHERE ended = 0 ORDER BY ordinal DESC LIMIT 1";
        self.read(|conn| one(conn, sql, [])?.map(parsed).transpose())
    }

    fn page(&self, offset: u64, limit: u32) -> Result<JobPage, PortError> {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        let rows =
            self.read(|conn| page(conn, offset, limit).map_err(StoreError::sql("read the job history")));
        let (total, rows) = rows?;
        // One that does not read must not hide the others.
        let jobs = rows.into_iter().filter_map(|row| match parsed(row) {
            Ok(job) => Some(job),
            Err(error) => {
                tracing::warn!(error = %PortError::from(error).chain(), "left out of the job history");
                None
            }
        });
        Ok(JobPage { jobs: jobs.collect(), total })
    }

    fn ended(&self) -> Result<Vec<EndedJobs>, PortError> {
        self.read(ended::ended)
    }

    fn reserve_events(&self, count: u64) -> Result<u64, PortError> {
        if self.is_read_only() { self.unrecorded_events(count) } else { self.take("events", count) }
    }
}

impl SqliteStore {
    /// Jobs and events get numbers above these from now on: those that an erased store has given. Durable on return.
    ///
    /// # Errors
    /// `Unavailable`, `Io`.
    pub fn raise_numbers(&self, jobs: u64, events: u64) -> Result<(), PortError> {
        Ok(self.write(|tx| {
            let sql = "UPDATE counters SET value = max(value, ?2) WHERE name = ?1";
            for (name, least) in [("jobs", jobs), ("events", events)] {
                tx.execute(sql, params![name, least]).map_err(StoreError::sql("raise a number"))?;
            }
            Ok(())
        })?)
    }

    /// Numbers for a run that records none: above those that readers have seen.
    fn unrecorded_events(&self, count: u64) -> Result<u64, PortError> {
        let recorded: u64 = self.read(|conn| {
            conn.query_row("SELECT value FROM counters WHERE name = 'events'", [], |row| row.get(0))
                .map_err(StoreError::sql("read a number"))
        })?;
        let taken = self.unrecorded_events.fetch_add(count, Ordering::Relaxed);
        Ok(recorded.saturating_add(taken).saturating_add(1))
    }

    /// Takes `count` numbers and gives the first.
    fn take(&self, counter: &str, count: u64) -> Result<u64, PortError> {
        Ok(self.write(|tx| {
            let sql = "UPDATE counters SET value = value + ?2 WHERE name = ?1 RETURNING value";
            let last: u64 = tx
                .prepare_cached(sql)
                .and_then(|mut update| update.query_row(params![counter, count], |row| row.get(0)))
                .map_err(StoreError::sql("take a number"))?;
            Ok(last - count + 1)
        })?)
    }
}

type Stored = (String, String);

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    Ok((row.get(0)?, row.get(1)?))
}

fn one(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<Option<Stored>, StoreError> {
    conn.prepare_cached(sql)
        .and_then(|mut select| select.query_row(params, stored).optional())
        .map_err(StoreError::sql("read a job"))
}

fn page(conn: &Connection, offset: i64, limit: u32) -> rusqlite::Result<(u64, Vec<Stored>)> {
    let total = conn.query_row("SELECT count(*) FROM jobs", [], |row| row.get(0))?;
    let sql = "SELECT id, record FROM jobs ORDER BY ordinal DESC LIMIT ?1 OFFSET ?2";
    let rows =
        conn.prepare_cached(sql)?.query_map(params![limit, offset], stored)?.collect::<Result<_, _>>()?;
    Ok((total, rows))
}

fn parsed((id, record): Stored) -> Result<Job, StoreError> {
    serde_json::from_str(&record).map_err(StoreError::record("jobs", id))
}
