//! What a grant does not include.

use crate::db::text_enum;

text_enum! {
    /// What a consultant must not do, though the profile may.
    pub enum Forbidden {
        /// Exporting data.
        Export = "export",
        /// Deleting data.
        Delete = "delete",
        /// Changing passwords and other credentials.
        Credentials = "credentials",
        /// Changing second factors of a login.
        Mfa = "mfa",
        /// Changing e-mail addresses, telephone numbers and postal addresses.
        ContactDetails = "contact_details",
        /// Changing bank accounts.
        BankAccount = "bank_account",
        /// Changing roles and permissions.
        Roles = "roles",
        /// Creating or changing API keys.
        ApiKeys = "api_keys",
        /// Sending mails.
        SendMail = "send_mail",
        /// Giving or withdrawing consent.
        Consent = "consent",
    }
}
