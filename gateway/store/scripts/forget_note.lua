-- KEYS[1] a note: deleted if it still holds the given text
-- ARGV: the text
-- Answers how many were deleted.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
