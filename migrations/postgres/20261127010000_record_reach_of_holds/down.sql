ALTER TABLE legal_holds DROP COLUMN placed_tenants;
