//! What others build on: HTTP, the API description, signatures, and the database schema.

mod bodies;
mod codes;
mod conformance;
mod database_schema;
mod description;
mod epochs;
mod http;
mod http_front;
mod interop;
mod openapi;
mod parameters;
mod repeats;
