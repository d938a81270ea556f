-- KEYS[1] gw:{id}, the task's hash: written unless it exists
-- KEYS[2] gw:{id}:parts: written with a task that had been lost; KEYS[3], KEYS[4]: then deleted
-- ARGV: ttl, fields and values of the new task (one JSON array: redis-py takes 2 µs for every argument), and for a task
--       that had been lost: part numbers and records (a JSON array of arrays, each short enough to unpack)
-- Answers "created" alone, or "exists" with the task that stands there: a repeat, or the first under an
-- Idempotency-Key.
if redis.call('EXISTS', TASK) == 1 then
  return answer('exists')
end
if ARGV[3] then
  redis.call('DEL', PARTS, TAIL, BODIES)
  for _, records in ipairs(cjson.decode(ARGV[3])) do
    redis.call('HSET', PARTS, unpack(records))
  end
end
redis.call('HSET', TASK, unpack(cjson.decode(ARGV[2])))
keep(tonumber(ARGV[1]))
local known = redis.call('HMGET', TASK, 'version', 'owner_key')
redis.call('PUBLISH', 'gw:progress:' .. known[2], string.match(TASK, '{(.*)}') .. ' ' .. known[1])
return cjson.encode({'created'})
