-- KEYS[1] gw:due:<what>:{shard}, task ids by the time they are due: those that are get a new time and are answered
-- ARGV: now, the new time, how many at most
-- Answers the task ids, the longest due first. Again after a lost answer: the first ones are then due at the new time.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, task_id in ipairs(due) do
  redis.call('ZADD', KEYS[1], ARGV[2], task_id)
end
return due
