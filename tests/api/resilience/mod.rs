//! Races, crashes, outages and full disks: nothing acknowledged is lost, nothing is half done.

mod bounds;
mod crash;
mod databases;
mod durability;
mod mail_races;
mod outage;
mod races;
mod readiness;
mod storage_failure;
