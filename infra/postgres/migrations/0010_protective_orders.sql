-- Stops, and orders that protect a position: where they wait, what they are for, and the order that made the position.
ALTER TABLE order_verdicts ADD COLUMN stop_price price_value, ADD COLUMN parent_order_id text, ADD COLUMN leg text;
ALTER TABLE order_events ADD COLUMN stop_price price_value, ADD COLUMN parent_order_id text, ADD COLUMN leg text;
ALTER TABLE orders ADD COLUMN stop_price price_value, ADD COLUMN parent_order_id text, ADD COLUMN leg text;
ALTER TABLE fills ADD COLUMN leg text;
