//! Races, crashes, outages and full disks: nothing acknowledged is lost, nothing is half done.

mod approval_races;
mod bounds;
mod change_races;
mod clock_ahead;
mod clock_behind;
mod clocks;
mod connections;
mod crash;
mod databases;
mod durability;
mod grant_races;
mod hanging_database;
mod mail_races;
mod newer_versions;
mod outage;
mod price;
mod races;
mod readiness;
mod reentry_races;
mod stopping;
mod storage_failure;
mod supervisors;
mod upgrades;
