CREATE TEMPORARY TABLE same AS
    SELECT id, min(id) OVER (PARTITION BY lower(trim(email))) AS kept FROM member;
UPDATE visit SET member = (SELECT kept FROM same WHERE id = visit.member);
DELETE FROM member WHERE id NOT IN (SELECT kept FROM same);
DROP TABLE same;
