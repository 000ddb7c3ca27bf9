-- Takes away what 0007_restores.sql made, and the audit with it.
CREATE OR REPLACE FUNCTION refuse_claim_while_rescaling() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('tradermind.rescaling', true) IS DISTINCT FROM 'on'
            AND EXISTS (SELECT FROM topic_rescales WHERE step <> 'DONE') THEN
        RAISE EXCEPTION 'a rescale is under way: finish it with `tradermind topics rescale`';
    END IF;
    RETURN NEW;
END $$;
DROP TABLE restores;
DROP FUNCTION refuse_change_of_restore;
