//! Races, crashes, outages and full disks: nothing acknowledged is lost, nothing is half done.

mod crash;
mod durability;
mod mail_races;
mod outage;
mod races;
mod storage_failure;
