-- KEYS[1] gw:{id}, the task's hash: fields set and deleted if its version is the expected one
-- KEYS[2] gw:{id}:parts, KEYS[3] gw:{id}:tail, KEYS[4] gw:{id}:bodies: deleted where ARGV says so
-- ARGV: now, ttl, op, expected version, what to drop ("", "tail", "all"), whether bodies may have to end ("1"),
--       fields and values to set, fields to delete (JSON arrays)
-- Answers "ok" with the version that this op made, also when it comes again; "gone"; "stale" with the task as it is.
local MOST_NOTICES = 4 -- and what they weigh is counted: see duties.py

-- Of the notices that wait to be delivered the latest stay: a task that fails again and again must not fill Redis.
local function drop_old_notices()
  local notices = {}
  for _, name in ipairs(redis.call('HKEYS', TASK)) do
    if string.sub(name, 1, 7) == 'notice:' then
      notices[#notices + 1] = {name, cjson.decode(redis.call('HGET', TASK, name)).at}
    end
  end
  table.sort(notices, function(one, other) return one[2] < other[2] end)
  for index = 1, #notices - MOST_NOTICES do
    redis.call('HDEL', TASK, notices[index][1])
  end
end

local now, ttl, op, expected, drop, ends, sets, deletes = unpack(ARGV)
local version = redis.call('HGET', TASK, 'version')
if not version then
  return answer('gone')
end
local made = version_of(op)
if made then
  return cjson.encode({'ok', made})
end
if version ~= expected then
  return answer('stale')
end
local fields = {'ops', ops_with(op), unpack(cjson.decode(sets))}
if deletes ~= '[]' then
  redis.call('HDEL', TASK, unpack(cjson.decode(deletes))) -- as good as allow_when_full()
else
  allow_when_full()
end
if drop == 'all' then
  redis.call('DEL', PARTS, TAIL, BODIES)
elseif drop == 'tail' then
  redis.call('DEL', TAIL)
end
local changed = commit(now, tonumber(ttl), fields)
if string.find(sets, '"notice:', 1, true) then
  drop_old_notices()
end
if ends == '1' then
  tell_control()
end
return cjson.encode({'ok', changed})
