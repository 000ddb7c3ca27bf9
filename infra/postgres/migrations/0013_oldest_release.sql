-- The oldest release that works on this schema, by its newest revision. Releases are replaced one worker at a time, so a
-- schema first grows (nothing that the release before it asks for is taken away) and is tidied up a release later: that
-- revision replaces this function, and older workers refuse to start.
CREATE FUNCTION oldest_release_served() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '0012' $$;
