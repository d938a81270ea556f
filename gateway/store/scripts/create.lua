-- KEYS[1] gw:{id}, the task's hash: written unless it exists
-- ARGV: ttl, fields and values of the new task (one JSON array: redis-py takes 2 µs for every argument)
-- Answers "created", or "exists" with the task that stands there: a repeat, or the first under an Idempotency-Key.
if redis.call('EXISTS', TASK) == 1 then
  return answer('exists')
end
redis.call('HSET', TASK, unpack(cjson.decode(ARGV[2])))
keep(tonumber(ARGV[1]))
local known = redis.call('HMGET', TASK, 'version', 'owner_key')
redis.call('PUBLISH', 'gw:progress:' .. known[2], string.match(TASK, '{(.*)}') .. ' ' .. known[1])
return answer('created')
