-- The tenants of the client that placed the hold, separated by spaces, or * for all: who reaches fewer does not release
-- it. Of holds that exist nobody knows, so only a client of every tenant releases them.
ALTER TABLE legal_holds ADD COLUMN placed_tenants TEXT NOT NULL DEFAULT '*';
