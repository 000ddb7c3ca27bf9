-- Decisions that somebody else took than the model in force, since it was not trained on the instrument.
ALTER TABLE decisions ADD COLUMN withheld text, ADD COLUMN withheld_for text;
