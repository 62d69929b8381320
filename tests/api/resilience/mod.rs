//! Races, crashes, outages and full disks: nothing acknowledged is lost, nothing is half done.

mod connections;
mod crash;
mod durability;
mod hanging_database;
mod outage;
mod races;
mod storage_failure;
