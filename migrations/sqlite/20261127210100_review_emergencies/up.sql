-- Links that were issued in an emergency, without an approval: why, and what a review found.
CREATE TABLE link_reviews (
    magic_link_id  TEXT NOT NULL PRIMARY KEY REFERENCES magic_links (id),
    tenant_id      TEXT NOT NULL,
    portal         TEXT NOT NULL,
    profile_id     TEXT NOT NULL,
    justification  TEXT NOT NULL,
    created_at     TIMESTAMP NOT NULL,
    review_due_at  TIMESTAMP NOT NULL,
    reviewed_at    TIMESTAMP,
    reviewer_id    TEXT,
    reviewer_name  TEXT,
    finding        TEXT,
    comment        TEXT,
    client_id      TEXT
);
-- The next emergency for a profile waits for the review of the one before.
CREATE UNIQUE INDEX link_reviews_open ON link_reviews (tenant_id, portal, profile_id) WHERE reviewed_at IS NULL;
CREATE INDEX link_reviews_due ON link_reviews (review_due_at) WHERE reviewed_at IS NULL;
