-- KEYS[1] gw:due:<what>:{shard}, task ids by the time they are due: one is removed if its time is still the given one
-- ARGV: task id, the time that it had when it was taken
local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if due and tonumber(due) == tonumber(ARGV[2]) then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return '["ok"]'
