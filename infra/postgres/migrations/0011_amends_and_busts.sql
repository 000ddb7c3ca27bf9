-- Changes of orders that rest, and fills that a venue took back.
ALTER TABLE order_verdicts ADD COLUMN amends event_ref;
ALTER TABLE order_events
    ADD COLUMN amend_id event_ref, ADD COLUMN pending_quantity price_value, ADD COLUMN pending_price price_value;
ALTER TABLE fills ADD COLUMN reverses text;
CREATE INDEX fills_reversed ON fills (reverses) WHERE reverses IS NOT NULL;
