DROP FUNCTION oldest_release_served;
