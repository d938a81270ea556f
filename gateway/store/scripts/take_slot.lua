-- KEYS[1] gw:batch:{id}, the batch's hash: its limit is read
-- KEYS[2] gw:batch:{id}:slots: who has been idle too long goes; the task is added, or its time is renewed
-- ARGV: now, ttl, task id, idle seconds
-- Answers "ok", also when Redis does not know the batch; else "full" with the tasks that hold the slots.
local now, ttl, task_id, idle = unpack(ARGV)
local limit = redis.call('HGET', KEYS[1], 'limit')
if not limit then
  return '["ok"]'
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. string.format('%.6f', tonumber(now) - tonumber(idle)))
if redis.call('ZSCORE', KEYS[2], task_id) or redis.call('ZCARD', KEYS[2]) < tonumber(limit) then
  redis.call('ZADD', KEYS[2], now, task_id)
  keep(tonumber(ttl))
  return '["ok"]'
end
return cjson.encode({'full', unpack(redis.call('ZRANGE', KEYS[2], 0, -1))})
