-- Takes away what 0003_dead_letters.sql made, and the audit with it.
DROP VIEW dead_letter_states;
DROP TABLE dead_letter_actions;
DROP FUNCTION refuse_change;
DROP INDEX dead_letters_place, dead_letters_held;
ALTER TABLE dead_letters DROP COLUMN stage, DROP COLUMN raw_headers, DROP COLUMN held_since, DROP COLUMN held_number;
