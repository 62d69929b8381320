-- Whether the links of a revoked key are kept, and a fresh one is mailed for each; and for how many that was done.
ALTER TABLE key_revocations ADD COLUMN renews BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE key_revocations ADD COLUMN renewed BIGINT NOT NULL DEFAULT 0;
