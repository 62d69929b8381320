//! An error of the service in words for the admin, next to the form field it is about.

use crate::magic_link::{Error, Problem};
use crate::web::log;

/// A sentence about something that went wrong, with the form field it is about.
pub struct Mistake {
    pub field: Option<(&'static str, &'static str)>,
    pub sentence: String,
}

impl Mistake {
    /// `pointer` is a JSON pointer into the request, as the service writes it.
    pub fn about(pointer: &str, sentence: &str) -> Self {
        Self { field: field_of(pointer), sentence: sentence.to_owned() }
    }

    fn plain(sentence: impl Into<String>) -> Self {
        Self { field: None, sentence: sentence.into() }
    }
}

/// An error in words for the admin.
pub fn explain(error: &Error) -> Vec<Mistake> {
    log(format_args!("the service did not do as the admin asked: {error}"));
    match error {
        Error::Refused(problem) => explain_problem(problem),
        Error::Busy { .. } | Error::NoAnswer(_) => vec![Mistake::plain(
            "The service that keeps the grants gave no clear answer. Look at the list below, wait a moment and try again: the same form never grants twice.",
        )],
    }
}

fn explain_problem(problem: &Problem) -> Vec<Mistake> {
    if !problem.errors.is_empty() {
        return problem.errors.iter().map(|error| Mistake::about(&error.pointer, &error.detail)).collect();
    }
    let known = match problem.code.as_str() {
        "support_session_cannot_grant" => {
            "This browser is inside a support session, and nobody may grant access from there. Press “I am done” in the portal first."
        }
        "resend_cool_down" => "A link was mailed a moment ago. Wait a minute before you send another one.",
        _ => "",
    };
    let sentence = [known, &problem.detail, &problem.title, "The service refused without saying why."]
        .into_iter()
        .find(|text| !text.is_empty());
    vec![Mistake::plain(sentence.unwrap_or_default())]
}

/// The form field behind a JSON pointer: its id on the page and its label.
fn field_of(pointer: &str) -> Option<(&'static str, &'static str)> {
    let path = pointer.trim_start_matches('#').trim_start_matches('/');
    match path.split('/').next()? {
        "portal" => Some(("portal", "Access to")),
        "consultant_id" => Some(("consultant_id", "Consultant")),
        "reason" => Some(("reason", "Reason")),
        "ticket" => Some(("ticket", "Ticket")),
        "duration" => Some(("duration_value", "Duration")),
        "profile" => Some(("profile_id", "User profile")),
        "access" => Some(("access", "Access")),
        _ => None,
    }
}
