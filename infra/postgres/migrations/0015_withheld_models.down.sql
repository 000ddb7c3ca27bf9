-- Takes away what 0015_withheld_models.sql made: which model was not asked, and why.
ALTER TABLE decisions DROP COLUMN withheld, DROP COLUMN withheld_for;
