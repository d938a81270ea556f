-- KEYS[1] gw:due:<what>:{shard}, task ids by the time they are due: one gets a new time, or is removed, if its time is
-- still the given one
-- ARGV: task id, the time it has, its new time ("" removes it)
-- Answers 1, also when it comes again with a new time; 0 when the task is due at another time or not listed.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local due = score and tonumber(score)
if due and due == tonumber(ARGV[2]) then
  if ARGV[3] == '' then
    redis.call('ZREM', KEYS[1], ARGV[1])
  else
    redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
  end
  return 1
end
return due and due == tonumber(ARGV[3]) and 1 or 0
