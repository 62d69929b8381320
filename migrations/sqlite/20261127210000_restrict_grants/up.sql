-- What a grant does not include, as JSON; NULL where nothing is restricted. A session keeps what its link said.
ALTER TABLE magic_links ADD COLUMN restrictions TEXT;
ALTER TABLE link_requests ADD COLUMN restrictions TEXT;
ALTER TABLE sessions ADD COLUMN restrictions TEXT;
