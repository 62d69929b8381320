-- The key that signs the checkpoints of the log. The event `log.key_changed` names the next one, and changes it.
ALTER TABLE audit_logs ADD COLUMN key_id TEXT NOT NULL DEFAULT 'checkpoints';
