//! The sum of all jobs that ever ended: of those in the history, and of those it keeps no more.
//!
//! The sum of the latter stands in the settings, written in the transaction that forgets them, so that the whole never falls.

use std::time::Duration;

use ota_core::{job::JobStatus, ports::EndedJobs};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// Where the sum of the forgotten jobs is kept.
const FORGOTTEN: &str = "jobs.forgotten";

/// Milliseconds that a job took, as SQL: of a record that does not read, none.
const TOOK: &str =
    "coalesce(max(CASE WHEN json_valid(record) THEN json_extract(record, '$.updated') - created END, 0), 0)";

/// The jobs that ended in one state.
#[derive(Serialize, Deserialize)]
struct Sum {
    state: String,
    jobs: u64,
    millis: u64,
}

/// Sums in which each state stands once.
#[derive(Default)]
struct Sums(Vec<Sum>);

impl Sums {
    fn add(&mut self, more: Sum) {
        match self.0.iter_mut().find(|sum| sum.state == more.state) {
            Some(sum) => {
                sum.jobs = sum.jobs.saturating_add(more.jobs);
                sum.millis = sum.millis.saturating_add(more.millis);
            }
            None => self.0.push(more),
        }
    }
}

/// All that ever ended.
pub(crate) fn ended(conn: &Connection) -> Result<Vec<EndedJobs>, StoreError> {
    let mut sums = forgotten(conn)?;
    let sql = format!("SELECT state, count(*), sum({TOOK}) FROM jobs WHERE ended = 1 GROUP BY state");
    let kept = rows(conn, &sql, []).map_err(StoreError::sql("sum up the ended jobs"))?;
    kept.into_iter().for_each(|sum| sums.add(sum));
    let known = |sum: Sum| {
        let state = JobStatus::ALL.into_iter().find(|state| state.as_str() == sum.state)?;
        Some(EndedJobs { state, jobs: sum.jobs, took: Duration::from_millis(sum.millis) })
    };
    Ok(sums.0.into_iter().filter_map(known).collect())
}

/// Removes the oldest ended jobs until `keep` jobs are left, and adds them to what was forgotten; how many went.
pub(crate) fn forget(tx: &Transaction<'_>, keep: u32) -> Result<usize, StoreError> {
    let sql = format!(
        "DELETE FROM jobs WHERE ended = 1 AND ordinal NOT IN
         (SELECT ordinal FROM jobs ORDER BY ordinal DESC LIMIT ?1) RETURNING state, 1, {TOOK}"
    );
    let gone = rows(tx, &sql, params![keep]).map_err(StoreError::sql("forget old jobs"))?;
    if gone.is_empty() {
        return Ok(0);
    }
    let count = gone.len();
    let mut sums = forgotten(tx)?;
    gone.into_iter().for_each(|sum| sums.add(sum));
    let text = serde_json::to_string(&sums.0).map_err(StoreError::record("settings", FORGOTTEN))?;
    let sql =
        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
    tx.execute(sql, [FORGOTTEN, text.as_str()])
        .map_err(StoreError::sql("keep the sum of the forgotten jobs"))?;
    Ok(count)
}

/// What does not read is nothing: numbers for a graph must not keep jobs from being forgotten.
fn forgotten(conn: &Connection) -> Result<Sums, StoreError> {
    let text: Option<String> = conn
        .query_row("SELECT value FROM settings WHERE name = ?1", [FORGOTTEN], |row| row.get(0))
        .optional()
        .map_err(StoreError::sql("read the sum of the forgotten jobs"))?;
    Ok(Sums(text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()))
}

fn rows(conn: &Connection, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<Vec<Sum>> {
    let mut statement = conn.prepare_cached(sql)?;
    let sums = statement
        .query_map(params, |row| Ok(Sum { state: row.get(0)?, jobs: row.get(1)?, millis: row.get(2)? }))?;
    sums.collect()
}
