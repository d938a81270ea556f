-- How many replicas this server has; with a write behind all writes before, for WAIT to wait for.
-- KEYS[1] gw:{id}: keeps its lifetime, which is set once more
-- No answer of INFO, as where an ACL forbids it, counts as no replica.
local left = redis.call('PTTL', KEYS[1])
if left > 0 then
  redis.call('PEXPIRE', KEYS[1], left)
end
local told = redis.pcall('INFO', 'replication')
return type(told) == 'string' and tonumber(string.match(told, 'connected_slaves:(%d+)')) or 0
