-- KEYS[1] any hash of ours
-- Answers its fields and values as one JSON array, {} when there is none.
return cjson.encode(redis.call('HGETALL', KEYS[1]))
