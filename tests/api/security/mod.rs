//! What nobody can do: call without a key, reach what is foreign, learn a secret, call without end.

mod access_matrix;
mod api_keys;
mod authority;
mod held_back;
mod operators;
mod rate_limits;
mod secrecy;
mod shadows;
