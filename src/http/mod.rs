//! HTTP for the routes: authentication, request bodies, responses, problems and rate limits.

mod body;
mod body_budget;
mod caller;
mod contract;
mod default_route;
mod forwarded;
mod head;
mod idempotency;
mod middleware;
mod oauth;
mod parameters;
mod plain_path;
mod problem;
mod rate_limit;
mod reply;
mod sampler;
mod sliced;
mod stopping;
mod turn;
mod until_close;

pub(crate) use body::{AwaitedBody, BATCH_LIMIT, Body, NoMembers, RawBody, Sender};
pub(crate) use caller::{
    Admin, ApproveLinks, AskForLinks, Caller, IntrospectSessions, IssueLinks, ManageAudit, ManageWebhooks,
    PresentedKey, ReadAudit, ReadConsultants, ReadLinks, ReadTenants, RedeemSessions, RevokeLinks, WriteAudit,
    WriteConsultants, WritePolicies, WriteTenants,
};
pub(crate) use contract::Contract;
pub(crate) use default_route::{KnownRoutes, refuse};
pub(crate) use head::head_as_get;
pub(crate) use idempotency::IdempotencyHeader;
pub(crate) use middleware::surround;
pub(crate) use oauth::TokenRequest;
pub(crate) use parameters::{Path, Query};
pub(crate) use plain_path::PAGE_OF_A_LINK;
pub(crate) use problem::{Problem, TRACE_ID, bare_problem};
pub(crate) use rate_limit::{Limits, limit_public, network};
pub(crate) use reply::{Accepted, Created, Json, cached, json as json_answer};
pub(crate) use sampler::Sampler;
pub(crate) use sliced::SLICE;
pub(crate) use stopping::Stopping;
pub(crate) use until_close::UntilClose;
