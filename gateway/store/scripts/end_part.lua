-- KEYS[4] gw:{id}:bodies: the attempt is forgotten
-- ARGV: part number, attempt
local number, attempt = unpack(ARGV)
local noted = redis.call('HGET', BODIES, number)
if noted then
  local bodies = cjson.decode(noted)
  bodies[attempt] = nil
  if next(bodies) == nil then
    redis.call('HDEL', BODIES, number)
  else
    allow_when_full()
    redis.call('HSET', BODIES, number, cjson.encode(bodies))
  end
end
return '["ok"]'
