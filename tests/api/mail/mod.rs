//! Mail: none is lost and none reaches anybody else, whatever the provider does.

mod bounced_notices;
mod changed_since;
mod contacts;
mod corrected_address;
mod crash;
mod daily_summaries;
mod delivered_after_all;
mod delivery_reports;
mod end_states;
mod ends_soon;
mod fresh_links;
mod granted_again;
mod held_back;
mod injection;
mod limits;
mod misbehaving_provider;
mod newer_version;
mod nightly_review;
mod notices;
mod outbox;
mod reporters;
mod true_notices;
